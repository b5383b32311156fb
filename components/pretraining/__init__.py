"""The tiny base: what stands for Qwen2-VL on two cores. It sees, grounds and looks up, and joins nothing."""
