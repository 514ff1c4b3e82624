package soultribe

import (
	"fmt"
	"slices"
	"strings"
)

// pin returns a statement with each operator, function, type and collation by its full name in pg_catalog,
// so that the session's search_path has no say in what they are. A plain name is looked up there: a schema
// before pg_catalog goes first, and one behind it, such as public, where an operand's type fits better, as
// that of a varchar does, for which pg_catalog has no operators of its own.
//
// OPERATOR(pg_catalog.+) has one precedence, whatever stands in it. A text in which operators of different
// ones meet without parentheses is thus refused, and so is what PostgreSQL looks up by a name that cannot be
// qualified: nullif, BETWEEN, IS DISTINCT FROM, and CASE with an operand. IN and LIKE become the operators
// that they stand for. Keywords are in capitals, and what could be taken for a function is not. The statements are
// this package's own, so that a refusal is a mistake in it: pin panics, and each New would find it.
func pin(sql string) string {
	p := pinner{tokens: tokenize(sql), frames: make([]pinFrame, 1, 8)}
	p.out.Grow(2 * len(sql))
	for p.at < len(p.tokens) {
		p.step()
	}
	return p.out.String()
}

// pinFrame is what is known of an expression between two parentheses, or CASE and END.
type pinFrame struct {
	operator string // the first since the last comma or keyword
	assigns  bool   // whether the next = is that of SET
	sets     bool   // whether each = behind a comma is
	closing  string // instead of the parenthesis
}

type pinner struct {
	tokens []token
	at     int
	before token // what came before, white space apart
	frames []pinFrame
	out    strings.Builder
}

// tokenKind tells tokens apart as far as pin must.
type tokenKind int

const (
	space tokenKind = iota // and comments
	word
	quoted // an identifier
	value  // a string, number or parameter
	operator
	punctuation
)

type token struct {
	kind tokenKind
	text string
}

// is tells whether t is one of these words.
func (t token) is(words ...string) bool { return t.kind == word && slices.Contains(words, t.text) }

// step writes the next token.
func (p *pinner) step() {
	t := p.tokens[p.at]
	p.at++
	switch t.kind {
	case space:
		p.out.WriteString(t.text)
		return
	case word:
		p.word(t)
	case operator:
		p.operator(t)
	case punctuation:
		p.punctuation(t)
	case quoted:
		if p.before.is("COLLATE") {
			p.out.WriteString("pg_catalog.")
		}
		p.out.WriteString(t.text)
	case value:
		p.out.WriteString(t.text)
	}
	p.before = t
}

// next returns the next token that is not white space, and skips to it when told to.
func (p *pinner) next(skip bool) token {
	for i := p.at; i < len(p.tokens); i++ {
		if p.tokens[i].kind == space {
			continue
		}
		if skip {
			p.at = i + 1
		}
		return p.tokens[i]
	}
	return token{}
}

func (p *pinner) refuse(what string) {
	panic(fmt.Sprintf("soultribe: %s cannot be pinned to pg_catalog, before %q", what, p.next(false).text))
}

func (p *pinner) frame() *pinFrame { return &p.frames[len(p.frames)-1] }

func (p *pinner) word(t token) {
	switch {
	case t.is("IN"):
		p.in()
		return
	case t.is("LIKE"):
		p.operator(token{operator, "~~"})
		return
	case t.is("NOT") && p.next(false).is("LIKE"):
		p.next(true)
		p.operator(token{operator, "!~~"})
		return
	case t.is("nullif", "ILIKE", "SIMILAR"), t.is("BETWEEN") && !p.before.is("ROWS"), t.is("DISTINCT") && p.before.is("IS", "NOT"), t.is("NOT") && p.next(false).is("IN"):
		p.refuse(t.text)
	case t.is("CASE"):
		if !p.next(false).is("WHEN") {
			p.refuse("CASE with an operand")
		}
		p.frames = append(p.frames, pinFrame{})
	case t.is("END"):
		p.frames = p.frames[:len(p.frames)-1]
	case t.is("SET"):
		*p.frame() = pinFrame{sets: true, assigns: true, closing: p.frame().closing}
	case t.is("WHERE", "FROM", "RETURNING"):
		*p.frame() = pinFrame{closing: p.frame().closing}
	case t.is("AND", "OR", "NOT", "ON", "SELECT", "AS", "BY", "HAVING", "IS", "WHEN", "THEN", "ELSE", "LIMIT", "OFFSET", "UNION"):
		p.frame().operator = ""
	case p.before.text == "::":
		if !typeKeywords[t.text] {
			p.out.WriteString("pg_catalog.")
		}
	case p.next(false).text == "(" && p.before.text != "." && !p.before.is("AS") && !syntaxBeforeParenthesis[t.text]:
		p.out.WriteString("pg_catalog.")
	}
	p.out.WriteString(t.text)
}

// typeKeywords are types whose names are looked up nowhere.
var typeKeywords = map[string]bool{"bigint": true, "boolean": true, "integer": true, "interval": true, "timestamp": true}

// syntaxBeforeParenthesis are words that are no functions although a parenthesis follows.
var syntaxBeforeParenthesis = map[string]bool{
	"ALL": true, "ANY": true, "CONFLICT": true, "EXISTS": true, "FILTER": true, "FROM": true, "JOIN": true, "LATERAL": true, "OVER": true, "VALUES": true,
	"coalesce": true, "extract": true, "greatest": true, "least": true,
}

// in writes x IN (a, b) as x = ANY (ARRAY[a, b]), and x IN (SELECT …) as x = ANY (SELECT …), which is what
// PostgreSQL makes of them.
func (p *pinner) in() {
	if p.next(true).text != "(" {
		p.refuse("IN")
	}
	p.operator(token{operator, "="})
	f := pinFrame{closing: ")"}
	p.out.WriteString(" ANY (")
	if !p.next(false).is("SELECT") {
		p.out.WriteString("ARRAY[")
		f.closing = "])"
	}
	p.frames = append(p.frames, f)
}

func (p *pinner) operator(t token) {
	f := p.frame()
	switch {
	case t.text == "*" && (p.before.text == "(" || p.before.text == "." || p.before.is("SELECT")): // not a product
		p.out.WriteString(t.text)
		return
	case t.text == "=" && f.assigns:
		f.assigns = false
		p.out.WriteString(t.text)
		return
	case p.before.kind == operator || p.before.text == "(" || p.before.text == ",":
		p.refuse("the prefix operator " + t.text)
	case f.operator != "" && precedence(f.operator) != precedence(t.text):
		p.refuse(f.operator + " beside " + t.text)
	}
	f.operator = t.text
	p.out.WriteString("OPERATOR(pg_catalog." + t.text + ")")
}

// precedence is that of an operator by its plain name, in an order of no meaning.
func precedence(operator string) int {
	switch operator {
	case "*", "/", "%":
		return 1
	case "+", "-":
		return 2
	case "=", "<", ">", "<=", ">=", "<>":
		return 3
	}
	return 4
}

func (p *pinner) punctuation(t token) {
	f := p.frame()
	switch t.text {
	case ",":
		f.operator, f.assigns = "", f.sets
	case "(", "[":
		p.frames = append(p.frames, pinFrame{closing: map[string]string{"(": ")", "[": "]"}[t.text]})
	case ")", "]":
		p.frames = p.frames[:len(p.frames)-1]
		t.text = f.closing
	}
	p.out.WriteString(t.text)
}

// tokenize cuts sql into tokens, which together are sql.
func tokenize(sql string) []token {
	tokens := make([]token, 0, len(sql)/3)
	for sql != "" {
		kind, n := lex(sql)
		tokens = append(tokens, token{kind, sql[:n]})
		sql = sql[n:]
	}
	return tokens
}

// lex returns the kind and the length of the first token of sql, which is not empty.
func lex(sql string) (tokenKind, int) {
	const (
		spaces    = " \t\n"
		operators = "+-*/<>=~!@#%^&|"
	)
	through := func(end string, from int) int {
		if i := strings.Index(sql[from:], end); i >= 0 {
			return from + i + len(end)
		}
		return len(sql)
	}
	run := func(in func(c rune) bool) int {
		if i := strings.IndexFunc(sql[1:], func(c rune) bool { return !in(c) }); i >= 0 {
			return 1 + i
		}
		return len(sql)
	}
	isSpace := func(c rune) bool { return strings.ContainsRune(spaces, c) }
	isOperator := func(c rune) bool { return strings.ContainsRune(operators, c) }
	switch c := rune(sql[0]); {
	case strings.HasPrefix(sql, "--"):
		return space, through("\n", 2)
	case isSpace(c):
		return space, run(isSpace)
	case c == '\'':
		return value, through("'", 1)
	case strings.HasPrefix(sql, "E'"):
		return value, through("'", 2)
	case c == '"':
		return quoted, through(`"`, 1)
	case c == '$' || isDigit(c):
		return value, run(isDigit)
	case isLetter(c):
		return word, run(func(c rune) bool { return isLetter(c) || isDigit(c) })
	case strings.HasPrefix(sql, "::"):
		return punctuation, 2
	case isOperator(c):
		return operator, run(isOperator)
	}
	return punctuation, 1
}

func isDigit(c rune) bool { return '0' <= c && c <= '9' }

func isLetter(c rune) bool { return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_' }
