package userfile

import (
	"slices"
	"strings"
)

// Format is the name of a file format.
type Format string

// The formats. JSONL and CSV are our own.
const (
	JSONL       Format = "jsonl"
	CSV         Format = "csv"
	Appwrite    Format = "appwrite"
	ASPNET      Format = "aspnet"
	Auth0       Format = "auth0"
	BetterAuth  Format = "better-auth"
	Clerk       Format = "clerk"
	Cognito     Format = "cognito"
	Devise      Format = "devise"
	Django      Format = "django"
	Drupal      Format = "drupal"
	Firebase    Format = "firebase"
	FusionAuth  Format = "fusionauth"
	Keycloak    Format = "keycloak"
	Kratos      Format = "kratos"
	Laravel     Format = "laravel"
	Mattermost  Format = "mattermost"
	Meteor      Format = "meteor"
	Okta        Format = "okta"
	Supabase    Format = "supabase"
	SuperTokens Format = "supertokens"
	WordPress   Format = "wordpress"
	Zitadel     Format = "zitadel"
)

// Formats lists all formats, our own first.
func Formats() []Format {
	var list []Format
	for _, f := range specs() {
		list = append(list, f.format)
	}
	return list
}

// Describe describes files of the format in a few words. Empty: there is no such format.
func (f Format) Describe() string { return f.spec().title }

func (f Format) spec() spec {
	list := specs()
	if i := slices.IndexFunc(list, func(s spec) bool { return s.format == f }); i >= 0 {
		return list[i]
	}
	return spec{}
}

func formatNames() string {
	var names []string
	for _, f := range Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// parser makes an account from a record.
type parser func(raw) (User, error)

// spec is everything that is particular to a format.
type spec struct {
	format Format
	title  string
	// signs identify the format: each is enough, and no file of another format has one. hints are shared by several
	// formats, and are for files without a sign.
	signs, hints []sign
	// parse returns the parser of records.
	parse func(Options) parser
	// json and csv say which of the two the format uses. email are the CSV columns of which a file must have one.
	json, csv bool
	email     []string
}

// sign is a set of names of columns or members, in lower case if case does not matter. A file has the sign if it has
// all of them, and none of those after "!".
type sign string

// seen reports whether the beginning of a file has the sign.
func (s sign) seen(in sight) bool {
	for name := range strings.FieldsSeq(string(s)) {
		unwanted, not := strings.CutPrefix(name, "!")
		if not == in.has(unwanted) || !not && !in.has(name) {
			return false
		}
	}
	return true
}

// always makes a parser for a format that needs no options.
func always(parse parser) func(Options) parser { return func(Options) parser { return parse } }

// specs is the table of formats.
func specs() []spec {
	return append(
		[]spec{
			{format: JSONL, title: "our own JSON Lines, as users export writes them", json: true, parse: always(parseJSONL)},
			{format: CSV, title: "our own CSV, as users export writes it", csv: true, parse: always(parseCSV), email: []string{"email"}},
		},
		foreignSpecs()...,
	)
}

// foreignSpecs are the formats of other programs.
func foreignSpecs() []spec {
	list := slices.Concat(documentSpecs(), moreDocumentSpecs(), tableSpecs())
	slices.SortFunc(list, func(a, b spec) int { return strings.Compare(string(a.format), string(b.format)) })
	return list
}

// documentSpecs are formats with a shape of their own.
func documentSpecs() []spec {
	return []spec{
		{
			format: Appwrite, title: "Appwrite's list of users", json: true, parse: always(parseAppwrite),
			signs: []sign{"emailVerification", "hashOptions", "$createdAt email"},
		},
		{
			format: Auth0, title: "Auth0's user export, password export or bulk import file", json: true, parse: always(parseAuth0),
			signs: []sign{
				"custom_password_hash", "passwordHash !securitystamp !normalizedemail !localid !loginmethods", "_id email_verified",
				"user_id|", "identities !email_confirmed_at", "user_metadata !email_confirmed_at !aud", "app_metadata !email_confirmed_at !aud", "logins_count",
			},
			hints: []sign{"user_id email !password_hash", "user_id email_verified password_hash"},
		},
		{
			format: Clerk, title: "Clerk's export or list of users", json: true, csv: true, parse: parseClerk,
			signs: []sign{
				"primary_email_address", "password_hasher", "primary_email_address_id", "email_addresses",
			},
			email: []string{"primary_email_address", "email_addresses", "verified_email_addresses", "unverified_email_addresses"},
		},
		{
			format: Cognito, title: "the users of an Amazon Cognito pool", json: true, csv: true, parse: parseCognito,
			signs: []sign{"cognito:username", "Attributes UserStatus", "Attributes Username"}, email: []string{"email"},
		},
		{
			format: Firebase, title: "what firebase auth:export writes", json: true, csv: true,
			parse: func(o Options) parser { return firebase{hash: o.Firebase}.parse },
			signs: []sign{"localId", "firebase-row"},
		},
		{
			format: FusionAuth, title: "FusionAuth's users, or its import file", json: true, csv: true, parse: parseFusionAuth,
			signs: []sign{"encryptionscheme", "encryption_scheme", "insertinstant", "usernamestatus", "uniqueusername"}, email: []string{"email"},
		},
	}
}

func moreDocumentSpecs() []spec {
	return []spec{
		{
			format: Keycloak, title: "Keycloak's export of realms or users", json: true, parse: always(parseKeycloak),
			signs: []sign{"realm !traits", "createdTimestamp", "credentials !traits !profile !localid"},
		},
		{
			format: Kratos, title: "identities of Ory Kratos", json: true, parse: always(parseKratos),
			signs: []sign{"traits"},
		},
		{
			format: Meteor, title: "the collection users of Meteor or Rocket.Chat", json: true, parse: always(parseMeteor),
			signs: []sign{"services emails !identities", "services username"},
		},
		{
			format: Okta, title: "Okta's list of users", json: true, csv: true, parse: parseOkta,
			signs: []sign{"profile status", "profile credentials", "profile _links", "login firstname lastname"}, email: []string{"email", "login"},
		},
		{
			format: SuperTokens, title: "SuperTokens' bulk import file, list of users or table emailpassword_users", json: true, csv: true,
			parse: parseSuperTokens,
			signs: []sign{"loginMethods", "user_id email time_joined"}, email: []string{"email"},
		},
		{
			format: Zitadel, title: "Zitadel's export or list of users", json: true, parse: always(parseZitadel),
			signs: []sign{"humanUsers", "orgs", "loginNames", "hashedPassword", "human userId"},
		},
	}
}
