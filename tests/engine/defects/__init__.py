"""What the TypeScript original does wrong in its distributed mode, one named test for each measured defect."""
