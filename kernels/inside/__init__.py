"""What runs inside the sandbox, without the rest of Pawl, as the package `pawl_worker`."""
