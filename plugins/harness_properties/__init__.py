"""The properties that come with the harness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.plugin import PropertySpec, hookimpl

CONDUCTIVITIES: Mapping[str, float] = {
    f"{prefix}{unit}": factor
    for prefix, factor in (("", 1.0), ("m", 1e-3))
    for unit in ("W/(m·K)", "W/(m*K)", "W/(m K)", "W/mK", "W/m/K", "W m-1 K-1")
}
PRESSURES: Mapping[str, float] = {"MPa": 1e-3, "kbar": 0.1, "Pa": 1e-9, "eV/Å³": 160.21766208}
"""To GPa; an eV/Å³ is the elementary charge in C times 10²¹ (CODATA 2018)."""


KAPPA = PropertySpec(
    name="thermal-conductivity",
    title="lattice thermal conductivity",
    symbol="κ",
    column="kappa",
    aliases=(
        *("tc", "ltc", "klat", "kappa_lattice", "thermal_conductivity"),
        *("lattice_thermal_conductivity", "kappa_w_mk"),
    ),
    unit="W/(m·K)",
    units={unit: factor for unit, factor in CONDUCTIVITIES.items() if unit != "W/(m·K)"},
    scale="log",
    # Below any dense solid; the lowest κ of the 3,318 AFLOW rows at hand is 0.0115. The
    # published protocol can predict κ slightly below zero; such a row counts as this value.
    lowest=0.01,
    at_temperature=True,
    metric="mae-log",
)
FORMATION_ENERGY = PropertySpec(
    name="formation-energy",
    title="formation energy per atom",
    symbol="E_f",
    column="formation_energy_per_atom",
    aliases=("e_form", "formation_energy", "ef", "e_f"),
    unit="eV/atom",
    units={"meV/atom": 1e-3, "kJ/mol": 1 / 96.48533212},
    scale="linear",
    metric="mae",
    materials_project="formation_energy_per_atom",
)
BAND_GAP = PropertySpec(
    name="band-gap",
    title="band gap",
    symbol="E_g",
    column="band_gap",
    aliases=("gap", "bandgap", "gap_pbe", "eg", "e_g"),
    unit="eV",
    units={"meV": 1e-3},
    scale="linear",
    lowest=0.0,
    metric="mae",
    materials_project="band_gap",
)


def _modulus(which: str, symbol: str) -> PropertySpec:
    return PropertySpec(
        name=f"{which}-modulus",
        title=f"{which} modulus",
        symbol=symbol,
        column=f"{which}_modulus",
        aliases=(f"{symbol.lower()}_vrh", f"{which}_modulus_vrh", symbol.lower()),
        unit="GPa",
        units=PRESSURES,
        scale="log",
        lowest=0.1,
        metric="mae-log",
        materials_project=f"{which}_modulus.vrh",
    )


BULK_MODULUS, SHEAR_MODULUS = _modulus("bulk", "K"), _modulus("shear", "G")
DEBYE_TEMPERATURE = PropertySpec(
    name="debye-temperature",
    title="Debye temperature",
    symbol="θ_D",
    column="debye_temperature",
    aliases=("theta_d", "theta_debye", "debye"),
    unit="K",
    scale="log",
    lowest=5.0,
    metric="mae-log",
)


@hookimpl
def register_properties() -> Iterable[PropertySpec]:
    """Offers properties of crystals, each with the values that make sense for it."""
    return (KAPPA, FORMATION_ENERGY, BAND_GAP, BULK_MODULUS, SHEAR_MODULUS, DEBYE_TEMPERATURE)
