"""The mind: resident, without privileges; it schedules looks, judges what they saw, and serves the verdict."""
