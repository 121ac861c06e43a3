"""Finding plugins, holding them to the contract, and telling whose error it is."""
