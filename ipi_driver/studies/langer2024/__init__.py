"""The published gas, liquid and ice tests from runs to one report: the plan, its execution, the comparison."""
