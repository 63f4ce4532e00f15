"""The values that everything else is made of: questions, images, stages, traces."""
