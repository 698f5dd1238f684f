"""Always-valid statistics: pure functions of counts and sums."""
