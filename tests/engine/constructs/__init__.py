"""What blueprints are built of, one inside the other, on the real engine."""
