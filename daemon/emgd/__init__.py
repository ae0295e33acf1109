"""The service: builds the parts in one visible order (service.py), runs them, undoes in reverse."""
