"""What a worker does with one task: reading, preprocessing, prediction, contours."""
