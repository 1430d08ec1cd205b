package userfile

import "strings"

// cognitoTable has the attributes of a user. Their names are also the columns of Cognito's own CSV.
func cognitoTable() table {
	return table{
		id: []string{"sub"}, email: []string{"email"}, username: []string{"cognito:username", "username"},
		first: []string{"given_name"}, last: []string{"family_name"}, whole: []string{"name"},
		created: []string{"usercreatedate"}, verified: []string{"email_verified"}, active: []string{"enabled"},
	}
}

// cognitoUser is an element of the output of `aws cognito-idp list-users`.
type cognitoUser struct {
	Attributes []struct {
		Name  string `json:"Name"`
		Value string `json:"Value"`
	} `json:"Attributes"`
}

func parseCognito(o Options) parser {
	t := cognitoTable()
	return func(cut raw) (User, error) {
		c, err := cut.cells()
		if err != nil {
			return User{}, err
		}
		var a cognitoUser
		if cut.json != nil {
			err = unmarshal(cut.json, &a, false)
		}
		if err != nil {
			return User{}, err
		}
		for _, attribute := range a.Attributes {
			c.object[strings.ToLower(attribute.Name)] = attribute.Value
		}
		return t.user(c, o.Now())
	}
}
