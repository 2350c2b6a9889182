"""What a run is asked to do: its spec, how people write it, presets, and how flags become specs."""
