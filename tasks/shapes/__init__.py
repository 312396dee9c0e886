"""What a task is (`task`), how it is judged (`judgement`), and the shapes tasks come in."""
