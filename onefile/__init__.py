"""How dist/pupgevent is made: the whole of pupgevent in one file, for any Python."""
