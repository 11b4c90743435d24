//! What only this implementation has: migrations, damage, several processes.
