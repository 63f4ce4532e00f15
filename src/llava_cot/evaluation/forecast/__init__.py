"""What a search would gain: expected scores and costs of methods from one pool of samples."""
