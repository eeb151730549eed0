-- Why a tls_error came to be, and whether an attempt was sent twice: what earlier schemas did not record.
ALTER TABLE attempts ADD COLUMN error_reason TEXT;
ALTER TABLE attempts ADD COLUMN resent INTEGER NOT NULL DEFAULT 0;
