"""What the profiles 2.0a and 2.0b share."""
