//! Runs the agent: starts the tasks, joins their channels, ends them.
