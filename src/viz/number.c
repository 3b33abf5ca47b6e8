/* number.c: numbers as text, the same in every locale, and round numbers for axes. */
#include "viz/drawing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double powers[] = {1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8};

void viz_number(char out[VIZ_NUMBER_BYTES], double value, int decimals) {
    if (isnan(value)) {
        snprintf(out, VIZ_NUMBER_BYTES, "n/a");
    } else if (isinf(value)) {
        snprintf(out, VIZ_NUMBER_BYTES, value < 0.0 ? "-inf" : "inf");
    } else if (fabs(value) >= 1e9) {
        int exponent = (int)floor(log10(fabs(value)));
        char mantissa[VIZ_NUMBER_BYTES];
        viz_number(mantissa, value / pow(10.0, exponent), 1);
        snprintf(out, VIZ_NUMBER_BYTES, "%.20se%d", mantissa, exponent);
    } else {
        int places = ATTN_MAX(0, ATTN_MIN(decimals, (int)ATTN_COUNT(powers) - 1));
        long long scale = (long long)powers[places], n = llround(fabs(value) * powers[places]);
        const char *sign = value < 0.0 && n > 0 ? "-" : "";
        if (places == 0) snprintf(out, VIZ_NUMBER_BYTES, "%s%lld", sign, n);
        else snprintf(out, VIZ_NUMBER_BYTES, "%s%lld.%0*lld", sign, n / scale, places, n % scale);
    }
}

void viz_number_short(char out[VIZ_NUMBER_BYTES], double value) {
    viz_number(out, value, 2);
    if (!strchr(out, '.') || strchr(out, 'e')) return;
    size_t length = strlen(out);
    while (out[length - 1] == '0') length--;
    if (out[length - 1] == '.') length--;
    out[length] = '\0';
}

viz_ticks viz_ticks_make(double low, double high, int wanted) {
    double raw = (high - low) / wanted;
    int power = (int)floor(log10(raw));
    double base = pow(10.0, power), step = 10.0 * base;
    int power_of_step = power + 1;
    static const double steps[] = {1.0, 2.0, 5.0};
    for (size_t i = ATTN_COUNT(steps); i-- > 0;)
        if (steps[i] * base >= raw * (1.0 - 1e-9)) step = steps[i] * base, power_of_step = power;
    int64_t first = (int64_t)ceil(low / step - 1e-6), last = (int64_t)floor(high / step + 1e-6);
    viz_ticks ticks = {.step = step, .first = first, .n = (int)(last - first + 1), .power = power_of_step};
    double most = fmax(fabs(low), fabs(high));
    bool whole_thousands = power_of_step >= 3;
    if (most >= 1e4 && most < 1e7 && whole_thousands) ticks.thousands = 1;
    else if (most >= 1e7 || power_of_step < -5) ticks.exponent = (int)floor(log10(most) + 1e-9);
    return ticks;
}

void viz_tick_text(char out[VIZ_NUMBER_BYTES], const viz_ticks *ticks, int index) {
    double value = viz_tick(ticks, index);
    if (ticks->first + index == 0) {
        viz_number(out, 0.0, ticks->exponent || ticks->thousands ? 0 : -ticks->power);
    } else if (ticks->exponent) {
        char mantissa[VIZ_NUMBER_BYTES];
        viz_number(mantissa, value / pow(10.0, ticks->exponent), ticks->exponent - ticks->power);
        snprintf(out, VIZ_NUMBER_BYTES, "%.20se%d", mantissa, ticks->exponent);
    } else if (ticks->thousands) {
        char thousands[VIZ_NUMBER_BYTES];
        viz_number(thousands, value / 1000.0, 0);
        snprintf(out, VIZ_NUMBER_BYTES, "%.20sk", thousands);
    } else {
        viz_number(out, value, -ticks->power);
    }
}
