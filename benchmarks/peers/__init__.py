"""vramscope beside other tools, on the same step of the same models: what each costs, and what each says of memory."""
