"""Where pixels come from: one file a reader."""
