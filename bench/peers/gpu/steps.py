def plan(tiny): return []
class StepBench:
    def __init__(self, *a): self.absent={}
    def close(self): pass
