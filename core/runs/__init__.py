"""Run folders: checkpoints, history, shipped models, and the trained model that plays."""
