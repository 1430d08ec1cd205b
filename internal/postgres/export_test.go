package postgres

// StatementLock is statementLock, for a test that acts as a killed process.
const StatementLock = statementLock
