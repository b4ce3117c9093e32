"""The emulated service; knows nothing of pytest, HTTP or an SDK."""
