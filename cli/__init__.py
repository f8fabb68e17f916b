"""The command line: commands with no logic of their own, and heavy imports only inside the one that needs them."""
