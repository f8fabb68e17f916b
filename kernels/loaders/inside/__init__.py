"""What runs in the sandbox for a problem that others wrote: their code, on inputs that it draws itself."""
