"""Where do the system tests run? In a booted Debian guest in front of an emulated Azure fabric."""
