"""What must hold for any bytes: shared by the Hypothesis tests beside each module and by ``python -m tests.fuzz``."""
