"""What commands share: following a job, what a terminal shows, what people type, what `doctor`
looks at. Commands talk to the platform through `port` only, which `database` implements.

What does not belong here: what runs the platform (`standalone`), and rules about jobs (`apps`).
"""
