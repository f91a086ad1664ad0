"""Loss: distillation over `[hard | soft]`, its metrics and its schedule.

Here: arithmetic on tensors with Keras and NumPy. It imports nothing of softlabels outside this room.
"""
