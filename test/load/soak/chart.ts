/** Draws curves, one below the other, as SVG. */

const WIDTH = 900
const HEIGHT = 150
const MARGIN = { left: 60, top: 30 }
const STEP = HEIGHT + 2 * MARGIN.top

export interface Curve {
  name: string
  /** One a second. */
  values: number[]
}

/** Returns an SVG document; each curve has its own scale, from 0 up. */
export function chart(title: string, curves: readonly Curve[]): string {
  const panels = curves.map((curve, at) => panel(curve, MARGIN.top + at * STEP))
  const size = `width="${WIDTH + 2 * MARGIN.left}" height="${MARGIN.top + curves.length * STEP}"`
  return `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="sans-serif" font-size="12">
<title>${title}</title>
<rect width="100%" height="100%" fill="white"/>
${text(MARGIN.left, 18, title)}
${panels.join('\n')}
</svg>
`
}

function panel({ name, values }: Curve, top: number): string {
  const most = Math.max(1, ...values) * 1.1
  const x = (at: number) => MARGIN.left + (at / Math.max(1, values.length - 1)) * WIDTH
  const y = (value: number) => top + HEIGHT - (value / most) * HEIGHT
  const points = values.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).join(' ')
  const frame = `<rect x="${MARGIN.left}" y="${top}" width="${WIDTH}" height="${HEIGHT}" fill="none" stroke="#999"/>`
  const line = `<polyline points="${points}" fill="none" stroke="#06c"/>`
  const scale = [0, 0.5, 1].map((part) => text(8, y(most * part) + 4, (most * part).toFixed(0)))
  const end = text(MARGIN.left + WIDTH - 40, top + HEIGHT + 16, `${values.length} s`)
  return [frame, line, ...scale, text(MARGIN.left + 6, top + 16, name), end].join('\n')
}

function text(x: number, y: number, words: string): string {
  return `<text x="${x}" y="${y}">${words}</text>`
}
