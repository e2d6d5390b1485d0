"""The subcommands of ``python -m lightning_lyap``, each a module with `configure` and `run`."""
