"""The chart, the images and what stands around them, as far as no cluster is needed."""
