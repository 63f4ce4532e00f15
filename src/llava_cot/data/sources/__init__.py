"""Sources: adapters that read public data sets in the layouts that their authors publish."""
