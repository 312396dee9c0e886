"""Networks: cells, layers, text. Knows tensors; knows no task, no flag, no corpus file."""
