package postgres

// StatementLock is statementLock, for a test that plays a killed process.
const StatementLock = statementLock
