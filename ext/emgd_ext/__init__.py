"""The data plane: small C kernels under thin Cython, run without the GIL. Imports nothing of ours."""
