"""The HTTP protocol: requests, responses, problems, and their OpenAPI document."""
