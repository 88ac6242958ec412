"""The virtual end nodes: the wire on one side, core events on the other."""
