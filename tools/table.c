/* table.c - aligned columns, and text that is safe to show on a terminal. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "tool.h"

enum { COLUMN_GAP = 2 };

struct table {
    const char *const *titles;
    size_t columns;
    char **cells; /* row by row */
    size_t count, room;
    size_t *widths;
};

/* ---------------------------------------------------------------------------------------------------------- text */

/* Bytes of the UTF-8 character at `text`, 0 if it is none or a control character. */
static size_t character_size(const unsigned char *text, size_t size)
{
    size_t n = *text < 0x80 ? 1 : *text >= 0xf0 ? 4 : *text >= 0xe0 ? 3 : 2;
    if (*text < 0x20 || *text == 0x7f || (*text >= 0x80 && *text < 0xc2) || *text > 0xf4 || n > size)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    return n == 2 && text[0] == 0xc2 && text[1] < 0xa0 ? 0 : n; /* C1 controls */
}

size_t text_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

void text_print(FILE *out, const char *text, size_t size, size_t width)
{
    const unsigned char *at = (const unsigned char *)text, *end = at + size;
    for (; at < end && width; width--) {
        size_t n = character_size(at, (size_t)(end - at));
        if (width == 1 && at + (n ? n : 1) < end) {
            fputs("…", out);
            return;
        }
        if (n)
            fwrite(at, 1, n, out);
        else
            fputc(*at == '\n' || *at == '\t' ? ' ' : '?', out);
        at += n ? n : 1;
    }
}

/* --------------------------------------------------------------------------------------------------------- table */

static const char *title_text(const char *title)
{
    return title + (*title == '>');
}

struct table *table_new(const char *const *titles, size_t columns)
{
    struct table *table = tool_alloc(1, sizeof *table);
    table->titles = titles;
    table->columns = columns;
    table->widths = tool_alloc(columns, sizeof *table->widths);
    for (size_t i = 0; i < columns; i++)
        table->widths[i] = text_width(title_text(titles[i]));
    return table;
}

static void table_grow(struct table *table)
{
    size_t room = table->room ? table->room * 2 : 64;
    char **cells = tool_alloc(room, sizeof *cells);
    if (table->count)
        memcpy(cells, table->cells, table->count * sizeof *cells);
    free(table->cells);
    table->cells = cells;
    table->room = room;
}

void table_cell(struct table *table, const char *format, ...)
{
    char *text = NULL;
    va_list list;
    va_start(list, format);
    int size = vasprintf(&text, format, list);
    va_end(list);
    if (size < 0)
        text = tool_alloc(1, 1);
    if (table->count == table->room)
        table_grow(table);
    size_t column = table->count % table->columns, width = text_width(text);
    if (width > table->widths[column])
        table->widths[column] = width;
    table->cells[table->count++] = text;
}

static void print_cell(const struct table *table, size_t column, const char *text, FILE *out)
{
    size_t padding = table->widths[column] - text_width(text);
    bool right = *table->titles[column] == '>', last = column + 1 == table->columns;
    fprintf(out, "%*s", right ? (int)padding : 0, "");
    text_print(out, text, strlen(text), SIZE_MAX);
    if (last)
        fputc('\n', out);
    else
        fprintf(out, "%*s", (int)(right ? 0 : padding) + COLUMN_GAP, "");
}

void table_print(const struct table *table, FILE *out)
{
    for (size_t i = 0; i < table->columns; i++)
        print_cell(table, i, title_text(table->titles[i]), out);
    for (size_t i = 0; i < table->count; i++)
        print_cell(table, i % table->columns, table->cells[i], out);
}

void table_free(struct table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i]);
    free(table->cells);
    free(table->widths);
    free(table);
}
