/** The few words of roff that a manual page needs. Pure text. */

const ESCAPES: Record<string, string> = {
  '\\': '\\e',
  '-': '\\-',
  '~': '\\(ti',
  '^': '\\(ha',
  "'": '\\(aq',
  '’': '\\(cq',
  '…': '...',
}

/** Returns text as roff in plain ASCII: what is special to roff stands for itself. */
export function escapeRoff(text: string): string {
  return text.replace(/[\\\-~^']|[^\n -~]/gu, (character) => {
    const code = character.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')
    return ESCAPES[character] ?? `\\[u${code}]`
  })
}

/** Returns text in bold. */
export function bold(text: string): string {
  return `\\fB${escapeRoff(text)}\\fR`
}

/** Returns text that stands for something else, as names of values do. */
export function italic(text: string): string {
  return `\\fI${escapeRoff(text)}\\fR`
}

/** Returns prose, a sentence a line; what stands in `backquotes` gets bold. */
export function prose(text: string): string {
  return (
    text
      .replace(/\s+/g, ' ')
      .trim()
      .split(/(?<=\.) (?=[A-Z])/)
      .map((sentence) =>
        sentence.split('`').map((part, i) => (i % 2 ? bold(part) : escapeRoff(part))),
      )
      // A dot at the start of a line would make a request of it.
      .map((parts) => parts.join('').replace(/^\./, '\\&.'))
      .join('\n')
  )
}

/** Returns a section's heading and its parts, one below the other. */
export function section(title: string, parts: string[]): string {
  // A heading begins a paragraph by itself; formatters warn of a second beginning.
  return [`.SH ${title}`, ...parts].join('\n').replace(/^(.*)\n\.PP\n/, '$1\n')
}

/** Returns the paragraphs of a text: they are parted by empty lines. */
export function paragraphs(text: string): string[] {
  return text.split(/\n{2,}/).map((paragraph) => `.PP\n${prose(paragraph)}`)
}

/** Returns an entry of a list: a term that is roff already, and what it means. */
export function entry(term: string, meaning: string): string {
  return `.TP\n${term}\n${prose(meaning)}`
}

/** Returns a command line as it is typed, on a line of its own. */
export function commandLine(command: string): string {
  return `.PP\n.RS 4\n.EX\n$ ${escapeRoff(command)}\n.EE\n.RE`
}
