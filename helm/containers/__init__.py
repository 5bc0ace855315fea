"""The images built, and the pods of the rendered chart run as containers: one machine, no cluster, no registry."""
