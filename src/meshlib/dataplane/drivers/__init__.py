"""The only files of the data plane that wait: one loop for threads, its twin for tasks."""
