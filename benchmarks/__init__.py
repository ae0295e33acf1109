"""Speed, memory and endurance, measured on the service as shipped."""
