"""Will the next Azure Backup of this Linux VM succeed, and if not, why not?"""

__version__ = "0.1.0"
