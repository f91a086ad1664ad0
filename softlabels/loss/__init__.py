"""Loss: distillation over `[hard | soft]`, its metrics and its schedule.

Here: arithmetic on tensors with NumPy, and Keras or PyTorch. It imports nothing of softlabels outside this room.
"""
