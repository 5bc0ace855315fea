"""The images built and the pods of the rendered chart run as containers on one machine, with no cluster and no registry."""
