"""Properties that Matbench's tasks are about, and that do not come with the harness."""

from __future__ import annotations

from harness.plugin import PropertySpec

PHONON_PEAK = PropertySpec(
    name="phonon-peak",
    title="frequency of the highest phonon peak",
    symbol="ω_max",
    column="phonon_peak",
    aliases=("last_phdos_peak", "last phdos peak"),
    unit="cm⁻¹",
    # 1 THz and 1 meV over the speed of light, and Planck's constant times it (CODATA 2018)
    units={"1/cm": 1.0, "cm-1": 1.0, "THz": 33.35640952, "meV": 8.065543937},
    scale="linear",
    lowest=0.0,
    metric="mae",
)
REFRACTIVE_INDEX = PropertySpec(
    name="refractive-index",
    title="refractive index",
    symbol="n",
    column="refractive_index",
    aliases=("n",),
    unit="",
    scale="linear",
    lowest=1.0,
    metric="mae",
)
EXFOLIATION_ENERGY = PropertySpec(
    name="exfoliation-energy",
    title="exfoliation energy",
    symbol="E_x",
    column="exfoliation_energy",
    aliases=("exfoliation_en",),
    unit="meV/atom",
    units={"eV/atom": 1e3},
    scale="linear",
    lowest=0.0,
    metric="mae",
)
PEROVSKITE_ENERGY = PropertySpec(
    # Of a whole cell, and against water vapour for oxygen: no formation energy per atom.
    name="perovskite-formation-energy",
    title="formation energy of a perovskite's cell",
    symbol="E_p",
    column="perovskite_formation_energy",
    unit="eV/cell",
    units={"meV/cell": 1e-3},
    scale="linear",
    metric="mae",
)
PROPERTIES = (PHONON_PEAK, REFRACTIVE_INDEX, EXFOLIATION_ENERGY, PEROVSKITE_ENERGY)
