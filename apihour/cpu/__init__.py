"""The processes behind ``container.run_cpu()``; imported where it is used, from config down."""
