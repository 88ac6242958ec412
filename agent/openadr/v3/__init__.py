"""The OpenADR 3 VEN, for VTNs of 3.0.1 and 3.1.0: its wire, its client and its part of a conversation."""
