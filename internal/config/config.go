// Package config is the only reader of Latchkey's environment. Every variable is a field of Config, with its
// meaning, its form and an example.
package config

import "time"

// Config holds every setting. Its tags are the documentation that `latchkey config` and error messages print.
// form and example describe a right value. min and max are its bounds, both inclusive. need names the profile
// that cannot run without the setting. secret keeps the value out of everything that is printed, and allows
// it to be in the file that the variable with _FILE appended names. echo:"no" keeps a wrong value out of the
// error, because it may be a secret that was set instead of its hash. only names the one profile that needs
// the setting's file.
type Config struct {
	// Listeners.

	GRPCAddr      string `env:"LATCHKEY_GRPC_ADDR" envDefault:":50051" form:"host:port" example:":50051" doc:"where gRPC is served"`
	HTTPAddr      string `env:"LATCHKEY_HTTP_ADDR" envDefault:":8080" form:"host:port" example:":8080" doc:"where the JWKS and the health pages are served"`
	OpsAddr       string `env:"LATCHKEY_OPS_ADDR" envDefault:"127.0.0.1:9464" form:"host:port" example:"127.0.0.1:9464" doc:"where metrics and pprof are served; not for the public"`
	OpsHosts      Names  `env:"LATCHKEY_OPS_HOSTS" form:"names of hosts, separated by commas" example:"latchkey,latchkey.monitoring.svc" doc:"names that requests to that listener may use, besides IP addresses, localhost and the name that it is bound to"`
	OperatorsPage string `env:"LATCHKEY_OPERATORS_PAGE" envDefault:"read" oneof:"off read change" form:"off, read or change" example:"change" doc:"the page for operators at / of that listener: read shows accounts, keys, audit events and the state of the service to a holder of an admin key; change also lets them suspend accounts and end sessions there"`

	// Stores.

	DatabaseURL       URL      `env:"LATCHKEY_DATABASE_URL" need:"serve" form:"a PostgreSQL URL" example:"postgres://latchkey@db.internal:5432/latchkey?sslmode=verify-full" secret:"url" doc:"PostgreSQL; all but dev read DATABASE_URL when this is unset"`
	DatabaseDirectURL URL      `env:"LATCHKEY_DATABASE_DIRECT_URL" form:"a PostgreSQL URL" example:"postgres://latchkey@db.internal:5432/latchkey?sslmode=verify-full" secret:"url" doc:"the same database, but past a pooler in transaction mode: for the connections that follow the ledger, for migrations and for commands; needed only with such a pooler"`
	DatabaseMaxConns  int      `env:"LATCHKEY_DATABASE_MAX_CONNS" envDefault:"20" min:"4" max:"1000" form:"a number" example:"20" doc:"the most connections of one replica to PostgreSQL"`
	RedisURL          RedisURL `env:"LATCHKEY_REDIS_URL" need:"serve" form:"a redis://, rediss://, unix:// or redis+sentinel:// URL; for a cluster several host:port, separated by commas" example:"redis://redis.internal:6379/0" secret:"url" doc:"Redis; all but dev read REDIS_URL when this is unset"`
	RedisCAFile       string   `env:"LATCHKEY_REDIS_CA_FILE" form:"a path" example:"/etc/latchkey/redis-ca.pem" doc:"the authorities (PEM) that must have signed Redis' certificate, in place of the system's; needs rediss://"`
	RedisMayEvict     bool     `env:"LATCHKEY_REDIS_MAY_EVICT" envDefault:"false" form:"true or false" example:"true" doc:"start on a Redis that may drop keys (a maxmemory with a maxmemory-policy other than noeviction): sessions and counts of failures are lost then"`
	Migrate           bool     `env:"LATCHKEY_MIGRATE" envDefault:"true" form:"true or false" example:"true" doc:"bring the database schema up to date at start"`

	// Lifetimes.

	AccessTokenTTL time.Duration `env:"LATCHKEY_ACCESS_TOKEN_TTL" envDefault:"15m" min:"10s" max:"24h" form:"a duration" example:"15m" doc:"life of an access token"`
	SessionIdleTTL time.Duration `env:"LATCHKEY_SESSION_IDLE_TTL" envDefault:"168h" min:"1m" max:"8760h" form:"a duration" example:"168h" doc:"a session ends when it was not refreshed for this long"`
	SessionMaxTTL  time.Duration `env:"LATCHKEY_SESSION_MAX_TTL" envDefault:"720h" min:"1m" max:"87600h" form:"a duration" example:"720h" doc:"a session ends this long after its login, whatever happens"`
	SessionLimit   int           `env:"LATCHKEY_SESSION_LIMIT" envDefault:"50" min:"1" max:"1000" form:"a number" example:"50" doc:"sessions that one account can have; another login ends the oldest"`
	RefreshGrace   time.Duration `env:"LATCHKEY_REFRESH_GRACE" envDefault:"10s" min:"0s" max:"5m" form:"a duration" example:"10s" doc:"how long a spent refresh token still gets the same answer without a request id"`
	ResetTokenTTL  time.Duration `env:"LATCHKEY_RESET_TOKEN_TTL" envDefault:"30m" min:"1m" max:"24h" form:"a duration" example:"30m" doc:"how long a mailed link for a new password works"`
	FreshWithin    time.Duration `env:"LATCHKEY_FRESH_WITHIN" envDefault:"10m" min:"10s" max:"24h" form:"a duration" example:"10m" doc:"how long after a login or a Reauthenticate a session may call methods that ask for a fresh authentication, such as the deletion of the account"`
	ReplicaLease   time.Duration `env:"LATCHKEY_REPLICA_LEASE" envDefault:"5s" min:"300ms" max:"10s" form:"a duration" example:"5s" doc:"how long a replica may answer from memory without an answer of PostgreSQL, and so the longest time that a revocation takes when a replica is gone; the same for all replicas"`
	AuditRetention time.Duration `env:"LATCHKEY_AUDIT_RETENTION" envDefault:"2160h" min:"24h" max:"876000h" form:"a duration" example:"2160h" doc:"how long audit events are kept"`

	// Tokens.

	Issuer            string        `env:"LATCHKEY_ISSUER" need:"serve" form:"an http or https URL" example:"https://auth.example.com" doc:"the iss claim of access tokens; latchkey dev: the URL of its HTTP listener"`
	Audience          string        `env:"LATCHKEY_AUDIENCE" envDefault:"latchkey" form:"a name or a URL" example:"latchkey" doc:"the aud claim of access tokens"`
	AccountAudience   string        `env:"LATCHKEY_ACCOUNT_AUDIENCE" form:"a name or a URL other than LATCHKEY_AUDIENCE" example:"https://auth.example.com" doc:"the aud claim of account tokens, which clients get beside access tokens and must then send to methods about their own account: a service that gets an access token cannot call these with it; unset: access tokens work for both"`
	ClientID          string        `env:"LATCHKEY_CLIENT_ID" envDefault:"latchkey" form:"a name" example:"latchkey" doc:"the client_id claim of access tokens"`
	TokenAlgorithm    string        `env:"LATCHKEY_TOKEN_ALGORITHM" oneof:"EdDSA ES256 RS256" form:"EdDSA, ES256 or RS256" example:"ES256" doc:"how access tokens are signed; unset: like the keys in the database, ES256 in a new one. A change takes effect 10 minutes after the start that brings it"`
	TokenType         string        `env:"LATCHKEY_TOKEN_TYPE" envDefault:"at+jwt" oneof:"at+jwt JWT" form:"at+jwt or JWT" example:"JWT" doc:"the typ header parameter of access tokens: at+jwt as RFC 9068 says, JWT for verifiers that refuse at+jwt; ValidateToken and authverify accept both, also of tokens issued before a change"`
	LongRefreshTokens bool          `env:"LATCHKEY_LONG_REFRESH_TOKENS" envDefault:"true" form:"true or false" example:"false" doc:"issue refresh tokens of 155 characters, whose refresh asks Redis once instead of twice, as soon as no running replica is of a release that cannot read them; false to be able to go back to such a release (operations.md)"`
	KeyRotation       time.Duration `env:"LATCHKEY_KEY_ROTATION" envDefault:"2160h" form:"0, or a duration of 24h or more" example:"2160h" doc:"age of the signing key at which the next one is made; 0: only latchkey keys rotate makes one"`
	SecretKey         SecretKey     `env:"LATCHKEY_SECRET_KEY" need:"serve" form:"at least 32 random bytes in base64" example:"the output of: openssl rand -base64 32" secret:"value" doc:"derives the keys of refresh tokens and seals signing keys at rest"`
	SecretKeyPrevious SecretKey     `env:"LATCHKEY_SECRET_KEY_PREVIOUS" form:"at least 32 random bytes in base64" example:"the previous LATCHKEY_SECRET_KEY" secret:"value" doc:"the key before the present one: tokens and sealed keys that it made stay readable"`

	CacheEntries int `env:"LATCHKEY_CACHE_ENTRIES" envDefault:"100000" min:"1000" max:"100000000" form:"a number" example:"100000" doc:"how many verified tokens, and how many accounts, are kept in memory for validations; about 1 KiB each"`

	// Operators and services.

	AdminKeySHA256   KeyHashes `env:"LATCHKEY_ADMIN_KEY_SHA256" echo:"no" form:"SHA-256 hashes with 64 hex digits each, separated by commas" example:"the 64 hex digits that sha256sum prints for the key without a line break" doc:"keys that may call AdminService and all methods for services; unset: nobody may"`
	ServiceKeySHA256 KeyHashes `env:"LATCHKEY_SERVICE_KEY_SHA256" echo:"no" form:"SHA-256 hashes with 64 hex digits each, separated by commas" example:"the 64 hex digits that sha256sum prints for the key without a line break" doc:"keys that may call methods for services, such as RevocationService"`
	AdminKey         Key       `env:"LATCHKEY_ADMIN_KEY" only:"admin" form:"an admin key" example:"the output of: openssl rand -base64 32" secret:"value" doc:"the admin key that the command latchkey admin sends; the service itself needs none"`

	// Passwords.

	Argon2MemoryKiB   int `env:"LATCHKEY_ARGON2_MEMORY_KIB" envDefault:"19456" min:"64" max:"262144" form:"a number of KiB" example:"19456" doc:"memory of one new password hash"`
	Argon2Time        int `env:"LATCHKEY_ARGON2_TIME" envDefault:"2" min:"1" max:"32" form:"a number" example:"2" doc:"passes of one new password hash"`
	Argon2Threads     int `env:"LATCHKEY_ARGON2_THREADS" envDefault:"1" min:"1" max:"64" form:"a number" example:"1" doc:"lanes of one new password hash"`
	HashSlots         int `env:"LATCHKEY_HASH_SLOTS" envDefault:"0" min:"0" max:"1024" form:"a number" example:"4" doc:"passwords hashed at once; 0: one for each processor"`
	HashQueue         int `env:"LATCHKEY_HASH_QUEUE" envDefault:"0" min:"0" max:"100000" form:"a number" example:"64" doc:"the most calls that wait for a hash; 0: 32 for each slot"`
	PasswordMinLength int `env:"LATCHKEY_PASSWORD_MIN_LENGTH" envDefault:"8" min:"8" max:"64" form:"a number" example:"8" doc:"how many code points a new password must have; 15 if it is the only factor (NIST SP 800-63B-4)"`

	BreachedPasswordsFile string `env:"LATCHKEY_BREACHED_PASSWORDS_FILE" form:"a path" example:"/var/lib/latchkey/pwnedpasswords.txt" doc:"Have I Been Pwned's list of SHA-1 hashes as its downloader writes it, a file or a folder: new passwords in it are refused"`

	PasswordPeppers Peppers `env:"LATCHKEY_PASSWORD_PEPPERS" form:"peppers to the letter, one a line; hex:… or base64:… for one that is no text" example:"Devise's config.pepper" secret:"value" doc:"peppers of other programs, for accounts that were imported with them: without its pepper such an account cannot log in"`

	// Mail.

	SMTPURL               URL       `env:"LATCHKEY_SMTP_URL" need:"serve" form:"an smtp:// or smtps:// URL" example:"smtp://user:password@mail.example.com:587" secret:"url" doc:"the mail server; smtp:// demands STARTTLS unless it has ?starttls=opportunistic or never; ?smtputf8=trusted or never is for addresses in letters of any language"`
	MailFrom              string    `env:"LATCHKEY_MAIL_FROM" form:"an address" example:"Example <no-reply@example.com>" doc:"the sender of mails; unset: no-reply at the host of LATCHKEY_RESET_URL"`
	SMTPCAFile            string    `env:"LATCHKEY_SMTP_CA_FILE" form:"a path" example:"/etc/latchkey/mail-ca.pem" doc:"the authorities (PEM) that must have signed the mail server's certificate, in place of the system's"`
	SMTPOAuthTokenURL     string    `env:"LATCHKEY_SMTP_OAUTH_TOKEN_URL" form:"an https URL" example:"https://oauth2.googleapis.com/token" doc:"where access tokens for a mail server with ?auth=xoauth2 come from"`
	SMTPOAuthClientID     string    `env:"LATCHKEY_SMTP_OAUTH_CLIENT_ID" form:"a name" example:"the client id from the mail provider" doc:"the client id for LATCHKEY_SMTP_OAUTH_TOKEN_URL"`
	SMTPOAuthClientSecret OldSecret `env:"LATCHKEY_SMTP_OAUTH_CLIENT_SECRET" form:"the exact secret from the mail provider" example:"the client's secret" secret:"value" doc:"the secret of that client"`
	SMTPOAuthRefreshToken OldSecret `env:"LATCHKEY_SMTP_OAUTH_REFRESH_TOKEN" form:"the exact token from the mail provider" example:"the mailbox's refresh token" secret:"value" doc:"a refresh token for the mailbox; unset: the client's own credentials are used, as Microsoft 365 needs it for services"`
	SMTPOAuthScope        string    `env:"LATCHKEY_SMTP_OAUTH_SCOPE" form:"words, separated by spaces" example:"https://outlook.office365.com/.default" doc:"the scope to ask for with the client's own credentials"`
	MailTemplates         string    `env:"LATCHKEY_MAIL_TEMPLATES" form:"a path" example:"/etc/latchkey/mails" doc:"a folder with your own words for mails: NAME.subject.txt, NAME.txt and NAME.html"`
	MailLanguage          string    `env:"LATCHKEY_MAIL_LANGUAGE" envDefault:"en" form:"a language tag" example:"pt-BR" doc:"the language of those words"`
	ProductName           string    `env:"LATCHKEY_PRODUCT_NAME" form:"a name" example:"Example" doc:"the name of the service in mails and on its pages; unset: the host of LATCHKEY_RESET_URL"`
	ResetURL              string    `env:"LATCHKEY_RESET_URL" form:"an https URL" example:"https://app.example.com/reset" doc:"the page that mailed links open, with ?token=… added, in the fragment if it has one (https://app.example.com/#/reset, or a # at its end for #token=…); unset: the account page /account/reset of LATCHKEY_ISSUER; serve needs it if there are no account pages, or if LATCHKEY_ISSUER is http at another machine"`
	VerifyURL             string    `env:"LATCHKEY_VERIFY_URL" form:"an https URL" example:"https://app.example.com/verify" doc:"the page that mailed links open to prove an address, with ?token=… added as for LATCHKEY_RESET_URL; unset: the account page /account/verify; without account pages such mails have a code of six digits only"`
	EmailChangeURL        string    `env:"LATCHKEY_EMAIL_CHANGE_URL" form:"an https URL" example:"https://app.example.com/email" doc:"the page that mailed links open about a change of address, with ?token=… added as for LATCHKEY_RESET_URL: it calls ConfirmEmailChange, or UndoEmailChange if the link has undo=1 before the token; unset: the account page /account/email; without account pages such mails have a code of six digits only, and no change can be undone by the owner"`
	InsecureLinks         bool      `env:"LATCHKEY_INSECURE_LINKS" envDefault:"false" form:"true or false" example:"true" doc:"let LATCHKEY_RESET_URL, LATCHKEY_VERIFY_URL and LATCHKEY_EMAIL_CHANGE_URL have the scheme of an app (myapp://reset), or http with an address or name of a local network"`
	NewDeviceMails        bool      `env:"LATCHKEY_NEW_DEVICE_MAILS" envDefault:"true" form:"true or false" example:"true" doc:"mail owners about logins of clients that show no device token, once their account has got one; false if clients do not keep them"`
	HideAccounts          bool      `env:"LATCHKEY_HIDE_ACCOUNTS" envDefault:"false" form:"true or false" example:"true" doc:"SignUp gives the same answer, without a user, whether or not the address has an account; the owner of a taken address gets a mail"`

	// Accounts.

	EmailVerification string `env:"LATCHKEY_EMAIL_VERIFICATION" envDefault:"optional" oneof:"off optional required" form:"off, optional or required" example:"required" doc:"whether people are asked to prove their address: off: nobody is; optional: SignUp mails a link and a code; required: there is also no login before the proof"`
	LoginByCode       bool   `env:"LATCHKEY_LOGIN_BY_CODE" envDefault:"false" form:"true or false" example:"true" doc:"let people log in with a mailed code of six digits instead of a password; then a person who reads their mails can log in, unless the account has a second factor"`

	DeletionGrace time.Duration `env:"LATCHKEY_DELETION_GRACE" envDefault:"0s" min:"0s" max:"8760h" form:"a duration" example:"720h" doc:"how long an account can be kept after its owner has deleted it: until then it cannot be used, and a login can cancel the deletion; 0: it is gone at once. A change does not apply to accounts that are to be deleted already"`

	// Account pages.

	AccountPages bool   `env:"LATCHKEY_ACCOUNT_PAGES" envDefault:"true" form:"true or false" example:"false" doc:"serve pages under /account/ of the HTTP listener, on which people sign up, log in and look after their account (pages.md)"`
	PagesDir     string `env:"LATCHKEY_PAGES_DIR" form:"a path" example:"/etc/latchkey/pages" doc:"a folder with your own texts.LANGUAGE.json, style.css, logo.svg or logo.png, header.html, footer.html and templates for those pages; read at start"`
	PagesColor   string `env:"LATCHKEY_PAGES_COLOR" form:"a colour" example:"#1a5fb4" doc:"the colour of buttons and links on those pages; made darker or lighter where it could not be read"`

	// Passkeys.

	PasskeyRPID    string  `env:"LATCHKEY_PASSKEY_RP_ID" form:"a domain name, or localhost" example:"example.com" doc:"the domain for which passkeys are made: the host of your pages, or a domain above it. A passkey works for no other, so a change ends all passkeys; unset: there are no passkeys; latchkey dev: localhost"`
	PasskeyOrigins Origins `env:"LATCHKEY_PASSKEY_ORIGINS" form:"origins, separated by commas" example:"https://app.example.com,android:apk-key-hash:47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU" doc:"the pages (https://HOST[:PORT]) and the Android apps that may use passkeys, each in full; needs LATCHKEY_PASSKEY_RP_ID"`

	// Server.

	TLSCertFile              string        `env:"LATCHKEY_TLS_CERT_FILE" form:"a path" example:"/etc/latchkey/tls.crt" doc:"certificate chain (PEM) of the gRPC and HTTP listeners; read again when it changes"`
	TLSKeyFile               string        `env:"LATCHKEY_TLS_KEY_FILE" form:"a path" example:"/etc/latchkey/tls.key" doc:"private key (PEM) of that certificate"`
	Reflection               bool          `env:"LATCHKEY_REFLECTION" envDefault:"false" form:"true or false" example:"true" doc:"serve gRPC reflection, so that grpcurl needs no proto files"`
	WebOrigins               WebOrigins    `env:"LATCHKEY_WEB_ORIGINS" form:"origins, separated by commas" example:"https://app.example.com,capacitor://localhost" doc:"the pages and apps (SCHEME://HOST[:PORT], each in full) whose scripts may call over HTTP from a browser; unset: none; latchkey dev: all of this machine too"`
	WebCookies               bool          `env:"LATCHKEY_WEB_COOKIES" envDefault:"false" form:"true or false" example:"true" doc:"keep the refresh tokens of pages of LATCHKEY_WEB_ORIGINS, and of the service's own origin, in cookies that no script can read, in the place of the answers; for pages on the same site (example.com and its sub-domains) as the service"`
	ReturnURLs               ReturnURLs    `env:"LATCHKEY_RETURN_URLS" form:"URLs, separated by commas" example:"https://app.example.com/callback,com.example.app:/callback" doc:"the pages and apps that may get a session of their own from Latchkey's pages, each in full and compared to the last letter: https, http of this machine, or the scheme of an app with a dot in it"`
	TrustedProxies           Prefixes      `env:"LATCHKEY_TRUSTED_PROXIES" form:"addresses or networks, separated by commas" example:"10.0.0.0/8,192.168.1.7" doc:"peers whose x-forwarded-for names the client, or whose PROXY header does if LATCHKEY_PROXY_PROTOCOL is on"`
	ProxyProtocol            bool          `env:"LATCHKEY_PROXY_PROTOCOL" envDefault:"false" form:"true or false" example:"true" doc:"take PROXY protocol headers, versions 1 and 2, from LATCHKEY_TRUSTED_PROXIES on the gRPC and HTTP listeners: they name the client if a proxy passes connections on unchanged"`
	AddressRateLimit         bool          `env:"LATCHKEY_ADDRESS_RATE_LIMIT" envDefault:"true" form:"true or false" example:"true" doc:"bound the calls of one network address as the contract says, also of loopback, but not calls with a key; false if all users share a gateway's address; latchkey dev: false"`
	MaxConnections           int           `env:"LATCHKEY_MAX_CONNECTIONS" envDefault:"8192" min:"1" max:"1000000" form:"a number" example:"8192" doc:"the most connections of the gRPC listener, and of the HTTP listener; about 50 KiB each"`
	MaxConnectionsPerAddress int           `env:"LATCHKEY_MAX_CONNECTIONS_PER_ADDRESS" envDefault:"1024" min:"1" max:"1000000" form:"a number" example:"1024" doc:"the most of them from one address (from an IPv6 /64) that is no trusted proxy"`
	ShutdownDelay            time.Duration `env:"LATCHKEY_SHUTDOWN_DELAY" envDefault:"0s" min:"0s" max:"5m" form:"a duration" example:"5s" doc:"how long a stopping server still takes calls while health says NOT_SERVING"`
	LogLevel                 string        `env:"LATCHKEY_LOG_LEVEL" envDefault:"info" oneof:"debug info warn error" form:"debug, info, warn or error" example:"info" doc:"the least level that is logged"`
	LogLines                 int           `env:"LATCHKEY_LOG_LINES" envDefault:"20" min:"0" max:"1000000" form:"a number" example:"20" doc:"the most lines a second about calls of one method with one code, and of each other kind; a line a second counts the rest; 0: all are logged"`
	LogFormat                string        `env:"LATCHKEY_LOG_FORMAT" envDefault:"auto" oneof:"auto text json" form:"auto, text or json" example:"auto" doc:"form of log lines; auto: text on a terminal, otherwise JSON"`
	LogDelay                 time.Duration `env:"LATCHKEY_LOG_DELAY" envDefault:"100ms" min:"0s" max:"10s" form:"a duration" example:"100ms" doc:"serve writes log lines together, at the latest after this time, at each warning or error, and when it stops; if it is killed, the lines of that time are lost; 0s: each line at once"`

	// Takeover from the older backends.

	LegacyEnabled             bool      `env:"LATCHKEY_LEGACY_ENABLED" envDefault:"false" form:"true or false" example:"true" doc:"serve the older backends' contract beside latchkey.v1, and accept the refresh tokens, reset tokens and attempt counters that they left in Redis; needs LATCHKEY_LEGACY_ACCEPT_UNTIL"`
	LegacyRS256PublicKeyFile  string    `env:"LATCHKEY_LEGACY_RS256_PUBLIC_KEY_FILE" form:"a path" example:"/etc/latchkey/old-jwt-public.pem" doc:"the Go backend's public key (PEM): tokens that it signed are accepted"`
	LegacyRS256PrivateKeyFile string    `env:"LATCHKEY_LEGACY_RS256_PRIVATE_KEY_FILE" form:"a path" example:"/etc/latchkey/old-jwt-private.pem" doc:"the Go backend's private key (PEM): access tokens are signed with it, in a form that Latchkey and the Go backend accept, so that both can serve side by side"`
	LegacyHS256Secret         OldSecret `env:"LATCHKEY_LEGACY_HS256_SECRET" form:"the exact secret of the Rust backend" example:"its JWT_SECRET" secret:"value" doc:"the Rust backend's secret: tokens that it signed are accepted"`
	LegacyAcceptUntil         time.Time `env:"LATCHKEY_LEGACY_ACCEPT_UNTIL" form:"a time in the form of RFC 3339" example:"2027-03-01T00:00:00Z" doc:"the time until which tokens of the older backends, and the tokens and counters that they left in Redis, are accepted, even if they live longer"`

	LegacyIssuer          string        `env:"LATCHKEY_LEGACY_ISSUER" envDefault:"saas-platform" form:"the exact issuer" example:"saas-platform" doc:"JWT_ISSUER of the Go backend, the iss of its tokens"`
	LegacyAccessTokenTTL  time.Duration `env:"LATCHKEY_LEGACY_ACCESS_TOKEN_TTL" envDefault:"0s" min:"0s" max:"8760h" form:"a duration" example:"1h" doc:"life of the Rust backend's access tokens: one of its tokens that lives longer is no access token; 0: any life but that of its refresh tokens"`
	LegacyRefreshTokenTTL time.Duration `env:"LATCHKEY_LEGACY_REFRESH_TOKEN_TTL" envDefault:"168h" min:"1m" max:"8760h" form:"a duration" example:"168h" doc:"life of the Rust backend's refresh tokens; Latchkey recognizes them by it, since they look like access tokens"`
	LegacyResetTokenTTL   time.Duration `env:"LATCHKEY_LEGACY_RESET_TOKEN_TTL" envDefault:"1h" min:"1m" max:"720h" form:"a duration" example:"1h" doc:"longest life of a reset token of an older backend: it works only if nothing has ended the account's sessions for as long"`
	LegacyLoginAttempts   int           `env:"LATCHKEY_LEGACY_LOGIN_ATTEMPTS" envDefault:"5" min:"1" max:"1000000" form:"a number" example:"5" doc:"failed logins after which the Go backend refuses an address: Latchkey refuses it too while that counter lives"`
	LegacyLoginWindow     time.Duration `env:"LATCHKEY_LEGACY_LOGIN_WINDOW" envDefault:"15m" min:"1s" max:"720h" form:"a duration" example:"15m" doc:"how long the Go backend counts failed logins: Latchkey gives this life to a counter that has none"`

	// Development.

	DevDir string `env:"LATCHKEY_DEV_DIR" form:"a path of an empty or new folder, or of one that dev has used before" example:"/tmp/latchkey-dev" doc:"where latchkey dev keeps its data; unset: a folder of the user's own"`
}

// Profile is what a command needs of the settings.
type Profile string

const (
	// Serve runs against stores that the operator names.
	Serve Profile = "serve"
	// Dev starts stores of its own, and everything has a default.
	Dev Profile = "dev"
	// Admin is for the commands of an operator, which call a service.
	Admin Profile = "admin"
	// Tool is for commands that read one or two settings.
	Tool Profile = "tool"
)

// devDefaults are the defaults of Dev that differ from those of Serve: it listens on loopback only, and
// nothing must be set. All calls come from one developer, whose load test is no attack.
func devDefaults() map[string]string {
	return map[string]string{
		"LATCHKEY_GRPC_ADDR":          "127.0.0.1:50051",
		"LATCHKEY_HTTP_ADDR":          "127.0.0.1:8080",
		"LATCHKEY_OPS_ADDR":           "127.0.0.1:9464",
		"LATCHKEY_REFLECTION":         "true",
		"LATCHKEY_ADDRESS_RATE_LIMIT": "false",
		"LATCHKEY_MAIL_FROM":          "Latchkey <no-reply@localhost>",
	}
}
