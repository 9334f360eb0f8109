"""Plots as SVG, without any library: bars on a logarithmic axis, and lines over two."""
import math

WIDTH, ROW, TOP, LETTER = 860, 24, 46, 6.8  # LETTER: of a label, with room to spare
COLOURS = ["#1b6ca8", "#c0392b", "#27803b", "#8e44ad", "#b9770e", "#16817a", "#7f3b1d", "#566573", "#d35483", "#3d4db7",
           "#708238", "#a04000", "#5b2c6f", "#0e6655", "#784212", "#1a5276"]


def escape(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;")


def text(x, y, what, anchor="start", size=12, colour="#222"):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{escape(what)}</text>'


def line(x1, y1, x2, y2, colour="#ddd", width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def page(width, height, parts):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
            f'font-family="sans-serif"><rect width="100%" height="100%" fill="#fff"/>' + "".join(parts) + "</svg>\n")


def short(value):
    """1234567 as 1.23M."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def decades(low, high):
    """The powers of ten around: at least two."""
    if low == high:
        high *= 1.01
    return range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)


def bars(title, unit, rows):
    """rows: (label, low, middle, high, ours). A bar to the median, a whisker over the spread."""
    tens = decades(min(row[1] for row in rows) / 2, max(row[3] for row in rows))
    left = 20 + LETTER * max(len(row[0]) for row in rows)
    width, height = left + WIDTH * 0.65, TOP + ROW * len(rows) + 30
    scale = (width - left - 90) / (tens[-1] - tens[0])

    def at(value):
        return left + (math.log10(value) - tens[0]) * scale
    parts = [text(12, 24, title, size=15)]
    for ten in tens:
        parts += [line(at(10 ** ten), TOP - 6, at(10 ** ten), height - 26),
                  text(at(10 ** ten), height - 10, short(10 ** ten) + unit, "middle", 11, "#666")]
    for i, (label, low, middle, high, ours) in enumerate(rows):
        y = TOP + ROW * i
        parts += [text(left - 8, y + 14, label, "end"),
                  f'<rect x="{left:.1f}" y="{y + 3}" width="{at(middle) - left:.1f}" height="{ROW - 9}" '
                  f'fill="{COLOURS[0] if ours else "#aab4bd"}"/>',
                  line(at(low), y + 10, at(high), y + 10, "#222"), text(at(high) + 6, y + 14, short(middle), size=11)]
    return page(round(width), height, parts)


def lines(title, x_title, y_title, series):
    """series: {label: [(x, y), …]}. Both axes are logarithmic."""
    points = [point for row in series.values() for point in row if point[1] > 0]
    xs, ys = decades(*span(points, 0)), decades(*span(points, 1))
    height, right, left = 420, 250, 70
    x_scale, y_scale = (WIDTH - left - right) / max(1, xs[-1] - xs[0]), (height - 100) / max(1, ys[-1] - ys[0])

    def at(point):
        return left + (math.log10(point[0]) - xs[0]) * x_scale, height - 50 - (math.log10(point[1]) - ys[0]) * y_scale
    parts = [text(12, 24, title, size=15), text(left, height - 10, x_title, size=11, colour="#666"),
             text(12, 40, y_title, size=11, colour="#666")]
    for ten in xs:
        x = at((10 ** ten, 10 ** ys[0]))[0]
        parts += [line(x, 50, x, height - 50), text(x, height - 34, short(10 ** ten), "middle", 11, "#666")]
    for ten in ys:
        y = at((10 ** xs[0], 10 ** ten))[1]
        parts += [line(left, y, WIDTH - right, y), text(left - 6, y + 4, short(10 ** ten), "end", 11, "#666")]
    for i, (label, row) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        places = [at(point) for point in row if point[1] > 0]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts += [f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>',
                  text(WIDTH - right + 12, 60 + 18 * i, label, colour=colour)]
    return page(WIDTH, max(height, 80 + 18 * len(series)), parts)


def span(points, axis):
    values = [point[axis] for point in points] or [1]
    return min(values), max(values)
